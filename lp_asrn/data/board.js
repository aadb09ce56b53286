// A picture to zoom and to move, on which a box is drawn, or the four corners of a plate; it loads nothing.
const NEAR = 14, HEIGHT = 460; // screen pixels: how near to a corner it is taken; height of the board
const NAMES = ["top left", "top right", "bottom right", "bottom left"];
const HELP = "wheel: zoom    Shift and drag: move    double click: all of it    Esc: clear";

function render({ model, el }) {
  const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
  Object.assign(canvas, { tabIndex: 0, className: "lp-board" });
  canvas.style.cssText = `display: block; width: 100%; height: ${HEIGHT}px; touch-action: none; background: #2b2b2b`;
  canvas.setAttribute("aria-label", "The picture: drag a box around the plate, or its corners");
  el.append(canvas);
  let image = null, view = { zoom: 1, x: 0, y: 0 }; // a point of the picture is seen at zoom * point + (x, y)
  let held = null, clicked = [], asked = 0; // what a drag moves; corners that were clicked so far; pictures that were asked for
  const quad = () => held?.quad ?? model.get("corners"), box = () => held?.box ?? model.get("box");
  const seen = ([x, y]) => [view.zoom * x + view.x, view.zoom * y + view.y];
  const size = () => [canvas.clientWidth || 800, HEIGHT];

  function place(event) { // where in the picture, and on the board
    const frame = canvas.getBoundingClientRect();
    const at = [event.clientX - frame.left, event.clientY - frame.top];
    const clip = (v, most) => Math.round(100 * Math.min(Math.max(v, 0), most)) / 100;
    const x = clip((at[0] - view.x) / view.zoom, image.width), y = clip((at[1] - view.y) / view.zoom, image.height);
    return { at, point: [x, y] };
  }
  function look(x0, y0, x1, y1, share) { // so that this fills a share of the board
    const [w, h] = size(), zoom = Math.min((share * w) / (x1 - x0), (share * h) / (y1 - y0), 16);
    view = { zoom, x: w / 2 - (zoom * (x0 + x1)) / 2, y: h / 2 - (zoom * (y0 + y1)) / 2 };
  }
  const all = () => image && look(0, 0, image.width, image.height, 1);
  function line(points, closed, dashes = []) {
    for (const [colour, width] of [["#fff", 4], ["#d3124a", 2]]) {
      Object.assign(pen, { strokeStyle: colour, lineWidth: width });
      pen.setLineDash(dashes);
      pen.beginPath();
      points.forEach((p, k) => pen[k ? "lineTo" : "moveTo"](...seen(p)));
      if (closed) pen.closePath();
      pen.stroke();
    }
    pen.setLineDash([]);
  }
  function knobs(points) {
    points.forEach((p, k) => {
      pen.beginPath();
      pen.arc(...seen(p), 6, 0, 7);
      Object.assign(pen, { fillStyle: held?.corner === k ? "#d3124a" : "#fff9", strokeStyle: "#d3124a", lineWidth: 2 });
      pen.fill();
      pen.stroke();
    });
  }
  function draw() {
    const [w, h] = size(), dots = window.devicePixelRatio || 1, b = box();
    Object.assign(canvas, { width: w * dots, height: h * dots });
    Object.assign(canvas.dataset, { view: [view.zoom, view.x, view.y], corners: JSON.stringify(quad()) }); // for tests
    pen.scale(dots, dots);
    pen.imageSmoothingEnabled = view.zoom < 2; // from there on each pixel is a square
    if (image) pen.drawImage(image, view.x, view.y, view.zoom * image.width, view.zoom * image.height);
    if (b.length && !quad().length) {
      const [x, y, right, low] = [b[0], b[1], b[0] + b[2], b[1] + b[3]];
      line([[x, y], [right, y], [right, low], [x, low]], true, [6, 4]);
    }
    if (quad().length) line(quad(), true), knobs(quad());
    if (clicked.length) line(clicked, false), knobs(clicked);
    const asks = model.get("mode") === "corners" && image && clicked.length < 4;
    const told = asks ? `click the ${NAMES[clicked.length]} corner of the plate    ${HELP}` : HELP;
    Object.assign(pen, { fillStyle: "#000a", font: "13px system-ui, sans-serif" });
    if (image) pen.fillRect(0, h - 24, pen.measureText(told).width + 16, 24), (pen.fillStyle = "#fff");
    if (image) pen.fillText(told, 8, h - 8);
    canvas.style.cursor = !model.get("enabled") ? "wait" : model.get("mode") === "move" ? "grab" : "crosshair";
    canvas.style.opacity = image && !model.get("enabled") ? 0.6 : 1;
  }
  function say(changes) { // to Python
    for (const [name, value] of Object.entries(changes)) model.set(name, value);
    model.save_changes();
  }
  canvas.addEventListener("pointerdown", (event) => {
    if (!image || !model.get("enabled")) return;
    canvas.setPointerCapture(event.pointerId);
    const { at, point } = place(event), mode = event.shiftKey || event.button ? "move" : model.get("mode");
    const apart = model.get("corners").map(seen).map(([x, y]) => Math.hypot(x - at[0], y - at[1]));
    const corner = apart.findIndex((d) => d === Math.min(...apart) && d < NEAR);
    if (mode === "move") held = { at, from: { ...view } };
    else if (corner >= 0) held = { corner, quad: model.get("corners").map((p) => [...p]) };
    else if (mode === "box") held = { start: point, quad: [] };
    else held = { click: point };
    draw();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!held) return;
    const { at, point } = place(event);
    if (held.from) Object.assign(view, { x: held.from.x + at[0] - held.at[0], y: held.from.y + at[1] - held.at[1] });
    else if (held.corner >= 0) held.quad[held.corner] = point;
    else if (held.start) {
      const low = held.start.map((v, k) => Math.min(v, point[k]));
      held.box = [...low, ...held.start.map((v, k) => Math.abs(v - point[k]))];
    }
    draw();
  });
  canvas.addEventListener("pointerup", () => {
    const done = held;
    held = null;
    if (done?.click) clicked.push(done.click);
    if (done?.corner >= 0) say({ corners: done.quad });
    else if (clicked.length === 4) say({ corners: clicked.splice(0) });
    else if (done?.box && Math.min(done.box[2], done.box[3]) >= 2) {
      const [x, y, w, h] = done.box;
      look(x, y, x + w, y + h, 0.6);
      say({ box: done.box });
    }
    draw();
  });
  canvas.addEventListener("pointercancel", () => ((held = null), draw()));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (!image) return;
    const { at } = place(event), before = view.zoom;
    view.zoom = Math.min(Math.max(before * Math.exp(-event.deltaY / 400), 0.05), 40);
    const [x, y] = at.map((v, k) => v - ((v - [view.x, view.y][k]) * view.zoom) / before);
    Object.assign(view, { x, y });
    draw();
  }, { passive: false });
  canvas.addEventListener("dblclick", () => (clicked.splice(-2), all(), draw()));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("keydown", (event) => {
    event.stopPropagation(); // keys are the notebook's otherwise
    if (event.key !== "Escape" || !model.get("enabled")) return;
    clicked = [];
    held = null;
    say({ box: [], corners: [] });
    draw();
  });
  async function show() {
    const bytes = model.get("picture"), before = image, turn = ++asked;
    const next = bytes.byteLength ? await createImageBitmap(new Blob([bytes])) : null;
    if (turn !== asked) return; // another one was asked for in the meantime
    image = next;
    clicked = [];
    if (before?.width !== image?.width || before?.height !== image?.height) all();
    draw();
  }
  function follow() { // a plate that has left the board is brought back
    const points = model.get("corners"), [w, h] = size();
    if (image && !held && points.map(seen).some(([x, y]) => x < 0 || y < 0 || x > w || y > h)) {
      const [xs, ys] = [points.map((p) => p[0]), points.map((p) => p[1])];
      look(Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys), 0.4);
    }
    draw();
  }
  model.on("change:picture", show);
  model.on("change:corners", follow);
  model.on("change:mode", () => ((clicked = []), draw()));
  for (const name of ["box", "enabled"]) model.on(`change:${name}`, draw);
  const watch = new ResizeObserver(() => (clicked.length || held || all(), draw()));
  watch.observe(canvas);
  show();
  return () => watch.disconnect();
}

export default { render };

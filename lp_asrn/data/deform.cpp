// The deformable operator (DCNv4) on a CPU; explained in nbs/205_deform_cpp.ipynb

// ==== the walk

#include <ATen/Dispatch.h>
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <torch/library.h>
#include <vector>

#ifdef __has_builtin
#define HAS_SHUFFLE __has_builtin(__builtin_shufflevector)
#endif

namespace {

struct Shape {
  int64_t N, H, W, G, D, Ho, Wo, P, kernel, stride, padding, dilation, K;
  double scale;
  bool remove_center;
};

// x and y of each tap for output position 0, in a map that has a rim of one pixel; x is the outer loop
template <typename T>
std::vector<T> tap_grid(const Shape& s) {
  const int64_t half = s.dilation * (s.kernel - 1) >> 1, origin = half - s.padding + 1;
  std::vector<T> grid;
  for (int64_t i = 0; i < s.kernel; ++i)
    for (int64_t j = 0; j < s.kernel; ++j)
      if (!s.remove_center || 2 * (i * s.kernel + j) + 1 != s.kernel * s.kernel)
        for (int64_t step : {i, j}) grid.push_back(T(origin) + T(step * s.dilation - half) * T(s.scale));
  return grid;
}

// One group of one image: its values, and their gradient, in maps of their own with a rim of zeros.
// DD is the number of channels if it is known when compiled, else 0.
template <typename T, int DD>
struct Group {
  const Shape& s;
  const std::vector<T> grid;
  const int64_t D, C, row;  // row: from a pixel to the one below
  std::vector<T> map, slope, sum;

  typedef T Lanes __attribute__((vector_size(4 * sizeof(T))));
  typedef Lanes Loose __attribute__((aligned(sizeof(T)), may_alias));  // in memory, wherever it begins
  static Lanes get(const T* p) { return *(const Loose*)p; }

  explicit Group(const Shape& shape)
      : s(shape), grid(tap_grid<T>(shape)), D(DD ? DD : shape.D), C(shape.G * D), row((shape.W + 2) * D),
        map((shape.H + 2) * row), sum(D) {}

  template <typename F>
  void each_pixel(int64_t n, int64_t g, F f) const {  // f(offset in the tensor, offset in the map)
    for (int64_t y = 0; y < s.H; ++y)
      for (int64_t x = 0; x < s.W; ++x) f(((n * s.H + y) * s.W + x) * C + g * D, (y + 1) * row + (x + 1) * D);
  }

  void load(const T* value, int64_t n, int64_t g) {
    each_pixel(n, g, [&](int64_t from, int64_t to) {
      for (int64_t d = 0; d < D; ++d) map[to + d] = value[from + d];
    });
  }

  // inside(k, corner, lx, ly): the first of tap k's four pixels, and the shares of those to the right and below
  template <typename F, typename O>
  inline void each_tap(const T* offset, int64_t xo, int64_t yo, F inside, O outside) const {
    const T left = T(xo * s.stride), top = T(yo * s.stride), scale = T(s.scale);
    for (int64_t k = 0; k < s.K; ++k) {
      const T x = left + grid[2 * k] + offset[2 * k] * scale, y = top + grid[2 * k + 1] + offset[2 * k + 1] * scale;
      if (x > 0 && y > 0 && x < T(s.W + 1) && y < T(s.H + 1)) {  // never true of NaN
        const int64_t x0 = int64_t(x), y0 = int64_t(y);
        inside(k, y0 * row + x0 * D, x - T(x0), y - T(y0));
      } else {
        outside(k);
      }
    }
  }

  // ==== forward

  void forward(const T* value, const T* packed, T* out, int64_t n, int64_t g) {
    load(value, n, g);
    T own[DD ? DD : 1];
    T* total = DD ? own : sum.data();
    for (int64_t yo = 0; yo < s.Ho; ++yo)
      for (int64_t xo = 0; xo < s.Wo; ++xo) {
        const int64_t place = (n * s.Ho + yo) * s.Wo + xo;
        const T *offset = packed + place * s.P + 3 * g * s.K, *m = offset + 2 * s.K;
        for (int64_t d = 0; d < D; ++d) total[d] = 0;
        Lanes four = {};  // the total of a group of four channels
        const auto inside = [&](int64_t k, int64_t corner, T lx, T ly) {
          const T *p0 = map.data() + corner, *p1 = p0 + D, *p2 = p0 + row, *p3 = p2 + D;
          const T w3 = lx * ly * m[k], w2 = ly * m[k] - w3, w1 = lx * m[k] - w3, w0 = m[k] - w1 - w2 - w3;
          if constexpr (DD == 4) {
            four += w0 * get(p0) + w1 * get(p1) + w2 * get(p2) + w3 * get(p3);
          } else {
#pragma omp simd
            for (int64_t d = 0; d < D; ++d) total[d] += w0 * p0[d] + w1 * p1[d] + w2 * p2[d] + w3 * p3[d];
          }
        };
        each_tap(offset, xo, yo, inside, [](int64_t) {});
        T* to = out + place * C + g * D;
        if constexpr (DD == 4) *(Loose*)to = four;
        else std::copy(total, total + D, to);
      }
  }

  // ==== backward

  // s[i] = sum over the channels of u * (pixel i of the four at p), four lanes at a time:
  // left to itself, the compiler adds up one by one
  inline void dot(const T* u, const T* p, T* s) const {
    const T *p1 = p + D, *p2 = p + row, *p3 = p2 + D;
    Lanes a = {}, b = {}, c = {}, e = {};
    int64_t d = 0;
    for (; d + 4 <= D; d += 4) {
      const Lanes t = get(u + d);
      a += t * get(p + d), b += t * get(p1 + d), c += t * get(p2 + d), e += t * get(p3 + d);
    }
#if HAS_SHUFFLE
    const Lanes ab = __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const Lanes ce = __builtin_shufflevector(c, e, 0, 4, 1, 5) + __builtin_shufflevector(c, e, 2, 6, 3, 7);
    const Lanes all = __builtin_shufflevector(ab, ce, 0, 1, 4, 5) + __builtin_shufflevector(ab, ce, 2, 3, 6, 7);
#else
    const auto add = [](Lanes v) { return (v[0] + v[2]) + (v[1] + v[3]); };
    const Lanes all = {add(a), add(b), add(c), add(e)};
#endif
    for (int i = 0; i < 4; ++i) s[i] = all[i];
    for (; d < D; ++d) s[0] += u[d] * p[d], s[1] += u[d] * p1[d], s[2] += u[d] * p2[d], s[3] += u[d] * p3[d];
  }

  void backward(const T* value, const T* packed, const T* grad, T* dvalue, T* dpacked, int64_t n, int64_t g) {
    load(value, n, g);
    slope.assign(map.size(), T(0));
    T own[DD ? DD : 1];
    for (int64_t yo = 0; yo < s.Ho; ++yo)
      for (int64_t xo = 0; xo < s.Wo; ++xo) {
        const int64_t place = (n * s.Ho + yo) * s.Wo + xo, first = place * s.P + 3 * g * s.K;
        const T *offset = packed + first, *m = offset + 2 * s.K, *from = grad + place * C + g * D;
        T *doffset = dpacked + first, *dm = doffset + 2 * s.K;
        if (DD) std::copy(from, from + D, own);
        const T* u = DD ? own : from;
        const auto inside = [&](int64_t k, int64_t corner, T lx, T ly) {
          T s4[4];
          dot(u, map.data() + corner, s4);
          const T above = s4[0] + lx * (s4[1] - s4[0]), below = s4[2] + lx * (s4[3] - s4[2]);
          const T share = m[k] * T(s.scale);
          dm[k] = above + ly * (below - above);
          doffset[2 * k] = share * ((1 - ly) * (s4[1] - s4[0]) + ly * (s4[3] - s4[2]));
          doffset[2 * k + 1] = share * (below - above);
          T *q0 = slope.data() + corner, *q1 = q0 + D, *q2 = q0 + row, *q3 = q2 + D;
          const T w3 = lx * ly * m[k], w2 = ly * m[k] - w3, w1 = lx * m[k] - w3, w0 = m[k] - w1 - w2 - w3;
          if constexpr (DD == 4) {  // all four are read before one is written, here and below
            const Lanes t = get(u);
            const Lanes a = get(q0) + w0 * t, b = get(q1) + w1 * t, c = get(q2) + w2 * t, e = get(q3) + w3 * t;
            *(Loose*)q0 = a, *(Loose*)q1 = b, *(Loose*)q2 = c, *(Loose*)q3 = e;
          } else {
#pragma omp simd
            for (int64_t d = 0; d < D; ++d) {
              const T a = q0[d] + w0 * u[d], b = q1[d] + w1 * u[d], c = q2[d] + w2 * u[d], e = q3[d] + w3 * u[d];
              q0[d] = a, q1[d] = b, q2[d] = c, q3[d] = e;
            }
          }
        };
        each_tap(offset, xo, yo, inside, [&](int64_t k) { doffset[2 * k] = doffset[2 * k + 1] = dm[k] = 0; });
      }
    each_pixel(n, g, [&](int64_t to, int64_t from) { std::copy_n(slope.data() + from, D, dvalue + to); });
  }
};

// ==== binding

// f(group, n, g) for every group of every image; each is one thread's alone: the number of threads changes nothing
template <typename T, typename F>
void each_group(const Shape& s, F f) {
  at::parallel_for(0, s.N * s.G, 1, [&](int64_t first, int64_t last) {
    const auto run = [&](auto group) {
      for (int64_t i = first; i < last; ++i) f(group, i / s.G, i % s.G);
    };
    switch (s.D) {
      case 4: return run(Group<T, 4>(s));
      case 8: return run(Group<T, 8>(s));
      case 16: return run(Group<T, 16>(s));
      case 32: return run(Group<T, 32>(s));
      default: return run(Group<T, 0>(s));
    }
  });
}

#define HOW_C                                                                             \
  int64_t groups, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation, double scale, bool remove_center

Shape shape_of(const at::Tensor& value, const at::Tensor& packed, HOW_C) {
  TORCH_CHECK(groups > 0 && kernel > 0 && stride > 0 && dilation > 0 && padding >= 0, "deform: geometry");
  TORCH_CHECK(value.dim() == 4 && packed.dim() == 4, "deform: geometry");
  TORCH_CHECK(value.is_contiguous() && packed.is_contiguous(), "deform: contiguous tensors");
  TORCH_CHECK(value.scalar_type() == packed.scalar_type(), "deform: tensors of one dtype");
  const int64_t H = value.size(1), W = value.size(2);
  const int64_t reach = dilation * (kernel - 1) + 1, K = kernel * kernel - remove_center;
  const int64_t Ho = (H + 2 * padding - reach) / stride + 1, Wo = (W + 2 * padding - reach) / stride + 1;
  TORCH_CHECK(packed.size(0) == value.size(0) && packed.size(1) == Ho && packed.size(2) == Wo, "deform: sizes");
  TORCH_CHECK(value.size(3) % groups == 0 && packed.size(3) >= 3 * groups * K, "deform: sizes");
  return {value.size(0), H, W, groups, value.size(3) / groups, Ho, Wo, packed.size(3),
          kernel, stride, padding, dilation, K, scale, remove_center};
}

at::Tensor deform_forward(const at::Tensor& value, const at::Tensor& packed, HOW_C) {
  const auto s = shape_of(value, packed, groups, kernel, stride, padding, dilation, scale, remove_center);
  auto out = at::empty({s.N, s.Ho, s.Wo, s.G * s.D}, value.options());
  AT_DISPATCH_FLOATING_TYPES(value.scalar_type(), "deform_forward", [&] {
    const auto *v = value.const_data_ptr<scalar_t>(), *p = packed.const_data_ptr<scalar_t>();
    auto* o = out.mutable_data_ptr<scalar_t>();
    each_group<scalar_t>(s, [&](auto& group, int64_t n, int64_t g) { group.forward(v, p, o, n, g); });
  });
  return out;
}

std::tuple<at::Tensor, at::Tensor> deform_backward(
    const at::Tensor& value, const at::Tensor& packed, const at::Tensor& grad, HOW_C) {
  const auto s = shape_of(value, packed, groups, kernel, stride, padding, dilation, scale, remove_center);
  TORCH_CHECK(grad.is_contiguous() && grad.scalar_type() == value.scalar_type(), "deform: gradient");
  TORCH_CHECK(grad.numel() == s.N * s.Ho * s.Wo * s.G * s.D, "deform: gradient");
  auto dvalue = at::empty_like(value), dpacked = at::empty_like(packed);
  dpacked.slice(3, 3 * s.G * s.K).zero_();  // the channels that only fill up
  AT_DISPATCH_FLOATING_TYPES(value.scalar_type(), "deform_backward", [&] {
    const auto *v = value.const_data_ptr<scalar_t>(), *p = packed.const_data_ptr<scalar_t>();
    const auto* u = grad.const_data_ptr<scalar_t>();
    auto *dv = dvalue.mutable_data_ptr<scalar_t>(), *dp = dpacked.mutable_data_ptr<scalar_t>();
    each_group<scalar_t>(s, [&](auto& group, int64_t n, int64_t g) { group.backward(v, p, u, dv, dp, n, g); });
  });
  return {dvalue, dpacked};
}

}  // namespace

#define HOW                                                     \
  "int groups, int kernel_size, int stride, int padding, "      \
  "int dilation, float offset_scale, bool remove_center)"
TORCH_LIBRARY(lp_asrn, m) {
  m.def("deform_forward(Tensor value, Tensor offset_mask, " HOW " -> Tensor");
  m.def("deform_backward(Tensor value, Tensor offset_mask, Tensor grad, " HOW " -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(lp_asrn, CPU, m) {
  m.impl("deform_forward", &deform_forward);
  m.impl("deform_backward", &deform_backward);
}

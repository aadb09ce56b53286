"Build from settings.ini, the one place where name, version and requirements are written."

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
ini = ConfigParser(delimiters=["="])
ini.read(here / "settings.ini", encoding="utf-8")
cfg = ini["DEFAULT"]
END = "_requirements"  # of the name of an extra

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license=cfg["license_name"],
    author=cfg["author"],
    keywords=cfg["keywords"],
    url=cfg["git_url"],
    packages=find_packages(include=["lp_asrn", "lp_asrn.*"]),
    package_data={"lp_asrn": ["py.typed", "data/**/*"]},
    include_package_data=True,
    python_requires=">=" + cfg["min_python"],
    install_requires=cfg["requirements"].split(),
    extras_require={k[: -len(END)]: cfg[k].split() for k in cfg if k.endswith(END)},
    entry_points={"console_scripts": cfg["console_scripts"].split()},
    zip_safe=False,
)

__version__ = "0.1.0"


def __getattr__(name: str):
    "`lp_asrn.Reader` and `lp_asrn.Generator`, imported when they are asked for: torch takes seconds that `lp_asrn --help` need not wait for"
    if name == "Reader":
        from .reading.reader import Reader

        return Reader
    if name == "Generator":
        from .models.generator import Generator

        return Generator
    raise AttributeError(f"module 'lp_asrn' has no attribute '{name}'")

__version__ = "0.1.0"


def __getattr__(name: str):
    "`lp_asrn.Reader` and `lp_asrn.pretrained`, imported when asked for: `lp_asrn --help` need not wait for torch"
    if name == "Reader":
        from .reading.reader import Reader

        return Reader
    if name == "pretrained":
        from .models.model_set import pretrained

        return pretrained
    raise AttributeError(f"module 'lp_asrn' has no attribute '{name}'")

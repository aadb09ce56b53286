import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .models.model_set import pretrained
    from .reading.reader import Reader

__version__ = "0.1.0"
__all__ = ["Reader", "pretrained"]


def __getattr__(name: str) -> Any:
    "What `__all__` names, imported when asked for: `lp_asrn --help` need not wait for torch"
    if name not in __all__:
        raise AttributeError(f"module 'lp_asrn' has no attribute '{name}'")
    module = ".reading.reader" if name == "Reader" else ".models.model_set"
    return getattr(importlib.import_module(module, __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]

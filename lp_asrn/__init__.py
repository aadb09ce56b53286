import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .models.generator import Generator
    from .models.model_set import ModelSet
    from .reading.reader import Reader

__version__ = "0.1.0"
_WHERE = {"Reader": "reading.reader", "Generator": "models.generator", "ModelSet": "models.model_set"}
__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    "What `__all__` names, imported when asked for: `lp_asrn --help` need not wait for it, nor a reader for torch"
    if name not in _WHERE:
        raise AttributeError(f"module 'lp_asrn' has no attribute '{name}'")
    try:
        return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
    except ModuleNotFoundError as e:
        from .settings import missing

        raise ImportError(missing(e, f"lp_asrn.{name}")) from None


def __dir__() -> list[str]:
    return [*globals(), *__all__]

"""Whether a thing is a transform, when a loader is given it: not hours later, in a worker."""

import inspect
import multiprocessing
import pickle
from typing import Any

from blocks.data.loading.made import called

HOMES = ("workers", "device")


def check_transform(transform: Any) -> None:
    """Raises ValueError for what takes no (pictures, keys), and for a home that it has not."""
    name = called(transform)
    if not callable(transform):
        raise ValueError(f"transform {transform!r} cannot be called; give TrainTransform(224), EvalTransform(224) ...")
    if _is_torchvisions(transform) or not _takes_two(transform):
        raise ValueError(
            f"transform {name} is not for (pictures, keys), which a loader gives it; give PerImage({name}), if it is a "
            "function of one picture"
        )
    home = getattr(transform, "home", "workers")
    if home not in HOMES:
        raise ValueError(f"transform {name} has home {home!r}; use one of {', '.join(HOMES)}")
    if home == "device" and not hasattr(transform, "finish"):
        raise ValueError(f"transform {name} has home 'device' and no finish(images, keys); write it, or home 'workers'")


def check_sendable(transform: Any, num_workers: int) -> None:
    """Raises ValueError for what cannot be sent to processes that begin with nothing of this one."""
    if not num_workers or start_method() == "fork":
        return
    try:
        pickle.dumps(transform)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"transform {called(transform)} cannot be sent to data workers, which begin by {start_method()} here "
            f"({error}); write its functions at the top of a module, or give num_workers=0"
        ) from None


def start_method() -> str:
    """How processes begin here. Only asked: nothing is decided by it."""
    return multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]


def _is_torchvisions(transform: Any) -> bool:
    """Without importing it; those of its second version take anything, and hand back what they do not know."""
    return type(transform).__module__.startswith("torchvision.transforms")


def _takes_two(transform: Any) -> bool:
    try:
        inspect.signature(transform).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # what is written in C need not say
        return True
    return True

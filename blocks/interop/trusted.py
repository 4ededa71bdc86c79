"""Whose code a described model may be built of, as a command line names it."""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from blocks.interop.construction import TRUSTED


def trusting(named: Sequence[str]) -> tuple[str, ...]:
    """This library and the named packages, modules and Python files: what `build` takes as trusted.

    A file, my_recipe.py, is imported as the module of its name, by which a model that it made knows its own blocks; it
    may import files beside it.
    Raises ValueError for a file that is not there, or is named as a module that is.
    """
    return (*TRUSTED, *(_module_of(Path(name)) if name.endswith(".py") else name for name in named))


def _module_of(file: Path) -> str:
    """The name of the module that the file is from now on."""
    if not file.is_file():
        raise ValueError(f"--trusted {file}: there is no such file; name a Python file, a module or a package")
    known = sys.modules.get(file.stem)
    if known is not None:
        if Path(getattr(known, "__file__", None) or "").resolve() != file.resolve():
            raise ValueError(f"--trusted {file}: another module is called {file.stem}; rename the file")
        return file.stem
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec  # as of every .py
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    sys.path.append(str(file.parent.resolve()))  # for its neighbours, which a program finds by itself
    spec.loader.exec_module(module)
    return file.stem

"""Pictures in files, by the name of a folder, a pattern or one of them."""

import glob
import os

from blocks.data.writing.folder import folder_source


def picture_files(place: str | os.PathLike) -> list[str]:
    """The files of a folder's pictures, at any depth, of a pattern ("photos/*.jpg"), or the one file; sorted.

    Raises FileNotFoundError where there are none.
    """
    place = os.path.expanduser(os.fspath(place))
    if os.path.isdir(place):
        return [str(item.image) for item in folder_source(place, labelled=False).items]
    if os.path.isfile(place):  # "photo[1].jpg", as a browser saves it, is not "photo1.jpg"
        return [place]
    found = sorted(path for path in glob.glob(place, recursive=True) if os.path.isfile(path))
    if not found:
        raise FileNotFoundError(f"no pictures at {place}; give a folder, a pattern or a file")
    return found

"""One shard of a data set: what the user calls it, and the plain tar that is read in its place."""

import attrs


@attrs.frozen
class Shard:
    """A webdataset tar by its name; `local` is where its plain tar lies on this machine."""

    name: str
    path: str

    def local(self) -> str:
        """The path of the plain tar."""
        return self.path

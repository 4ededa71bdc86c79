from blocks.ops import threefry as threefry  # `blocks.threefry` on a GPU, whatever draws first

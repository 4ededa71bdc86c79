"""Batches from samples: made in workers, finished on the device."""

"""Whether products and sums are fused, said by every launch: Triton's default will change, and the last bits too."""

FUSED = {"enable_fp_fusion": True}
AS_WRITTEN = {"enable_fp_fusion": False}  # each product and sum rounded by itself, as PyTorch's operations do

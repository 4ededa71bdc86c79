"""Fail unless the recipe's last evaluation reached the accuracy that the README promises."""

import json
import sys
from pathlib import Path

PROMISED = 0.97

lines = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
epochs = [line for line in lines if line["kind"] == "epoch"]
top1 = epochs[-1]["val_top1"]
seconds = sum(line["seconds"] + line["evaluation_seconds"] for line in epochs)
print(f"digits: top-1 {top1:.4f}, promised {PROMISED}; {len(epochs)} epochs in {seconds:.0f} s")
sys.exit(top1 < PROMISED)

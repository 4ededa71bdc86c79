"""Fail unless the recipe's last evaluation reached the accuracy that the README promises."""

import json
import sys
from pathlib import Path

PROMISED = 0.97

lines = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
evaluations = [line for line in lines if "val/top1" in line]
top1 = evaluations[-1]["val/top1"]
print(f"digits: top-1 {top1:.4f} after {len(evaluations)} evaluations, promised {PROMISED}")
sys.exit(top1 < PROMISED)

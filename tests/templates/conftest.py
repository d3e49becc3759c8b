import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bridge" / "src"), str(ROOT / "bridge"), str(ROOT / "files")]

"""The site's scripts are no package: they import each other from their folder."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "docs" / "site"))

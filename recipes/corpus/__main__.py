"""`python -m recipes.corpus build|targets`, from the top of a checkout."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())

"""`torchrun … -m hear_audiomamba.pretrain CONFIG`: the verb `pretrain`, under a launcher of processes."""

import sys

from ..cli import main

if __name__ == "__main__":
    sys.exit(main(["pretrain", *sys.argv[1:]]))

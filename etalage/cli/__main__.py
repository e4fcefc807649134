"""`python -m etalage.cli`."""

from etalage.cli import main

main()

"""`python -m bale`."""

from bale.cli.app import main

main()

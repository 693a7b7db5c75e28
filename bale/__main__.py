"""`python -m bale`."""

from bale.cli.entry import main

if __name__ == "__main__":
    main()

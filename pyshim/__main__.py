"""`python -m pyshim` is the command `tidegate`."""

from pyshim.cli import main

if __name__ == "__main__":
    main()

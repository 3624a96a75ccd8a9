"""`python -m textvae`: the command line."""

from textvae.cli import main

if __name__ == "__main__":
    main()

"""`python -m maskmill`: the `maskmill` command."""

from maskmill.cli import main

if __name__ == "__main__":
    main()

"""``python -m placerec`` is the same as ``placerec``."""

from placerec.cli import main

if __name__ == "__main__":
    main()

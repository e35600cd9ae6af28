"""``python -m placerec`` is the same as ``placerec``."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Until the command begins, Ctrl-C ends the process as it ends other programs: no traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from placerec.cli import main

if __name__ == "__main__":
    main()

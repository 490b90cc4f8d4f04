"""What a user sees of an error: one line and exit code 2.  A traceback is a defect (HELMLITE_TRACEBACK=1 shows it)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_WRONG_INPUT = 2
EXIT_GATE_FAILED = 3
EXIT_GATE_UNDECIDED = 4
EXIT_INTERRUPTED = 130


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns the errors that bad input causes into one line on stderr and exit code 2."""
    try:
        yield
    except KeyboardInterrupt:
        print("helmlite: interrupted; run the same command again to go on.", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("HELMLITE_TRACEBACK"):
            raise
        print(f"helmlite: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(EXIT_WRONG_INPUT)

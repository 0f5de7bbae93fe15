"""`segue` in which an erasure may be due within seconds, not hours: python -m tests.kafka.hurried run …"""

from __future__ import annotations

from segue import limits
from segue.cli import main

if __name__ == "__main__":
    limits.ERASE_WITHIN_MS_MIN = 1_000
    limits.BACKUP_MS = 1_000
    main()

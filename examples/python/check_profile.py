"""Check a profile, and see what a change of it changes: check_profile.py FILE"""

import sys
from pathlib import Path

from fleeti import profiles

text = Path(sys.argv[1]).read_text()
for finding in profiles.check(text):
    print(f"{finding.severity}: line {finding.line}: {finding.path}: {finding.message}; {finding.remedy}")
before = profiles.resolve(text).profile
for change in profiles.diff(before, before.replace(description="changed")):
    print(f"{change.path}: {change.before} -> {change.after}")

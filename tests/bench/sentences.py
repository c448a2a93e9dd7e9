"""Real sentences that every Python carries: those of its own language reference (``pydoc_data``).

python sentences.py 500 > sentences.txt
"""

import re
import sys
from pydoc_data.topics import topics

PLAIN = re.compile(r"[A-Z][A-Za-z0-9 ,:;'’()-]{30,200}[.]")


def sentences(count: int) -> list[str]:
    """The first ``count`` different sentences made of words alone, in the order of the topics."""
    found: dict[str, None] = {}
    for name in sorted(topics):
        text = re.sub(r"\s+", " ", re.sub(r"\n\n", ".\n\n", topics[name]))
        for part in re.split(r"(?<=[.]) ", text):
            if PLAIN.fullmatch(part):
                found[part] = None
    if len(found) < count:
        raise ValueError(f"there are {len(found)} sentences only")
    return list(found)[:count]


if __name__ == "__main__":
    print("\n".join(sentences(int(sys.argv[1]))))

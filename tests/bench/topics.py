"""The topics of Python's own reference as JSON lines: texts that every Python carries.

python topics.py > topics.jsonl
"""

import json
from pydoc_data.topics import topics

if __name__ == "__main__":
    for name in sorted(topics):
        print(json.dumps({"name": name, "text": topics[name]}))

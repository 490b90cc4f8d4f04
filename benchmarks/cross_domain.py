"""The matrix *trained on* x *tested on*, with the commit that it was made at.

    python benchmarks/cross_domain.py MODEL,trained_on=SET... --data SET/data.yaml --data ... --out DIR

The same as `helmlite cross-domain`, which states seed, versions and data hashes; a package does not know its commit.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from common import commit

from helmlite.evaluate.cross_domain_files import write_cross_domain
from helmlite.evaluate.pages.markdown import cross_domain_markdown
from helmlite.models.matrix import cross_domain_models
from helmlite.models.wanted import typed_again


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", action="append", required=True, help="PATH[,name=NAME], once for each set")
    parser.add_argument("--split", default="test")
    parser.add_argument("--runtime")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    command = typed_again("python benchmarks/cross_domain.py", sys.argv[1:])
    found = cross_domain_models(
        given.models, given.data, given.split, given.runtime, limit=given.limit, seed=given.seed, command=command
    )
    found = replace(found, versions={**found.versions, "commit": commit()})
    if given.out is not None:
        write_cross_domain(found, given.out)
    print(cross_domain_markdown(found))
    print(", ".join(f"{name} {value}" for name, value in found.versions.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource
from child_trainer.training.freed_memory import freed_memory_kept

def held():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20

for _ in range(2):
    with freed_memory_kept():
        blocks = [bytearray(20 << 20) for _ in range(4)]
        full = held()
        del blocks
        print(full - held())
    print(full - held())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it concerns glibc")
def test_what_a_training_frees_is_kept_until_its_end():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    during, after, again, after_again = map(int, done.stdout.split())
    assert during < 10 and again < 10
    assert after > 70 and after_again > 70

"""A control group: what runs in it is counted together, servers that a cache leaves running too. Needs root."""

import os, subprocess, sys, time
from pathlib import Path


class Group:
    def __init__(self, name):
        v1 = Path("/sys/fs/cgroup/cpuacct")
        base = v1 if v1.is_dir() else Path("/sys/fs/cgroup")
        self.path = base / f"spolia-bench-{os.getpid()}-{name}"
        self.path.mkdir()

    def cpu(self):
        """CPU seconds so far, user and system."""
        if (self.path / "cpuacct.usage").exists():
            return int((self.path / "cpuacct.usage").read_text()) / 1e9
        lines = dict(line.split() for line in (self.path / "cpu.stat").read_text().splitlines())
        return int(lines["usage_usec"]) / 1e6

    def join(self):
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def run(self, command, **how):
        """Runs it to its end and until the group rests; the CPU seconds of that."""
        before = self.cpu()
        done = subprocess.run(command, preexec_fn=self.join, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **how)
        self.rest()
        if done.returncode != 0:
            sys.exit(f"{command} failed:\n{done.stdout.decode()[-3000:]}")
        return self.cpu() - before

    def rest(self):
        # What a server still writes away belongs to the build.
        for _ in range(50):
            seen = self.cpu()
            if not (self.path / "cgroup.procs").read_text().split():
                break
            time.sleep(0.2)
            if self.cpu() - seen < 0.002:
                break

    def end(self):
        """Ends what is left in the group, and nothing else."""
        for _ in range(50):
            left = (self.path / "cgroup.procs").read_text().split()
            if not left:
                break
            for pid in left:
                try:
                    os.kill(int(pid), 15)
                except ProcessLookupError:
                    pass
            time.sleep(0.1)
        self.path.rmdir()

"""
Recognise network drives, where SQLite's shared memory does not work.
"""

import os

from pathlib import Path
from typing import Final


_MOUNTS: Final = Path("/proc/self/mountinfo")
_NETWORK: Final = frozenset(
    {
        "9p",
        "afs",
        "ceph",
        "cifs",
        "fuse.ceph",
        "fuse.glusterfs",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
    }
)


def network_drive(path: Path, mounts: Path = _MOUNTS) -> str | None:
    """
    Return the type of the network drive that holds *path*, if one does.

    Only Linux tells.

    Args:
        path: The path of a file.
        mounts: The list of mounts.
    """
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    parents = {str(parent) for parent in Path(os.path.realpath(path)).parents}
    longest, type_ = "", ""
    for line in lines:
        mount, _, details = line.partition(" - ")
        # Later lines cover earlier ones.
        point = mount.split(" ")[4].replace(r"\040", " ")
        if point in parents and len(point) >= len(longest):
            longest, type_ = point, details.split(" ")[0]
    return type_ if type_ in _NETWORK else None

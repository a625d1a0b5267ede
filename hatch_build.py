"""
A hook of the build that writes the description and the URLs of the package.
"""

import re

from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


# A block of code, or else a link or a picture whose target is a file here.
TARGET = re.compile(
    r"^```.*?^```|(!?)\[([^]]*)\]\((?![a-z]+:|#)([^)\s]+)\)",
    re.MULTILINE | re.DOTALL,
)
PICTURE = re.compile(r"^!\[[^]]*\]\([^)]*\)\n+", re.MULTILINE)
# The pages of a repository that a package index lists beside the package.
PAGES = {
    "Repository": "",
    "Issues": "/issues",
    "Documentation": "/blob/v{version}/docs/index.md",
    "Changelog": "/blob/v{version}/CHANGELOG.md",
    "Security": "/blob/v{version}/SECURITY.md",
}


def describe(readme: str, repository: str, version: str) -> str:
    """
    Return the README with targets that work outside of the repository.

    Without a repository, pictures go, and links become their text.

    Args:
        readme: The text of the README.
        repository: The URL of the repository, or an empty string.
        version: The version whose tag has the files.
    """

    def replace(match: re.Match[str]) -> str:
        picture, text, target = match.groups()
        if target is None:
            return match[0]
        if not repository:
            return text
        kind = "raw" if picture else "blob"
        return f"{picture}[{text}]({repository}/{kind}/v{version}/{target})"

    if not repository:
        readme = PICTURE.sub("", readme)
    return TARGET.sub(replace, readme)


class DescriptionHook(MetadataHookInterface):
    """
    Adds the description and the URLs to the metadata of the package.
    """

    def update(self, metadata: dict[str, Any]) -> None:
        """
        Set the fields that pyproject.toml names as dynamic.

        Args:
            metadata: The ``project`` table, with the version.
        """
        repository = self.config["repository"].rstrip("/")
        version = metadata["version"]
        readme = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": describe(readme, repository, version),
        }
        metadata["urls"] = (
            {
                name: repository + path.format(version=version)
                for name, path in PAGES.items()
            }
            if repository
            else {}
        )

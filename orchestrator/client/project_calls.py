"""What the client asks of projects: their terms and their secrets."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import quote

from orchestrator.schemas import ProjectPage, SecretPage


class ProjectCalls:
    """Part of Client."""

    def _get(self, path: str, **params: Any) -> Any:
        raise NotImplementedError

    def _ask(self, method: str, path: str, **given: Any) -> Any:
        raise NotImplementedError

    def projects(self) -> ProjectPage:
        """Projects with terms of their own, or with jobs that are queued or running."""
        return cast(ProjectPage, self._get("/projects"))

    def set_project(self, name: str, **terms: Any) -> ProjectPage:
        """Change terms of a project (guarantee, weight, borrows), or make it. Raises UsageError."""
        return cast(ProjectPage, self._ask("PUT", f"/projects/{quote(name, safe='')}", json=terms))

    def remove_project(self, name: str) -> ProjectPage:
        """Take a project's terms away. Raises NotFound."""
        return cast(ProjectPage, self._ask("DELETE", f"/projects/{quote(name, safe='')}"))

    def secrets(self, project: str = "default") -> SecretPage:
        """Names of a project's secrets, and who set them when."""
        return cast(SecretPage, self._get(f"/projects/{quote(project, safe='')}/secrets"))

    def set_secret(self, name: str, value: str, project: str = "default") -> SecretPage:
        """Set a secret of a project. Raises UsageError."""
        path = f"/projects/{quote(project, safe='')}/secrets/{quote(name, safe='')}"
        return cast(SecretPage, self._ask("PUT", path, json={"value": value}))

    def remove_secret(self, name: str, project: str = "default") -> SecretPage:
        """Remove a secret of a project. Raises NotFound."""
        path = f"/projects/{quote(project, safe='')}/secrets/{quote(name, safe='')}"
        return cast(SecretPage, self._ask("DELETE", path))

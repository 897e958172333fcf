"""The site as a Django app: it holds the start-up checks."""

from django.apps import AppConfig


class TutormaxConfig(AppConfig):
    """Registers the checks."""

    name = "tutormax"

    def ready(self) -> None:
        """Importing the checks registers them."""
        from tutormax import checks  # noqa: F401

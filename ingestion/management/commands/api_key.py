"""`manage.py api_key`: the keys of API clients, from a shell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import OperationalError, ProgrammingError, transaction
from rich.table import Table

from ingestion import api_keys
from ingestion.api_keys import LONGEST_DAYS, OVERLAPS, SCOPES, RefusedError
from ingestion.management.command import PortalCommand, print_table, record_type
from ingestion.models import Activity, ApiClient, ApiKey

_DAYS = 90


class Command(PortalCommand):
    """Creates, lists, rotates and revokes keys; the portal's Keys page does the same.

    Standard output gets only a new key, which is shown only once; all other text goes to standard
    error.
    """

    help = "Makes, lists, rotates and revokes the API keys of clients on other machines."
    examples = (
        "create scheduler --scope sessions --scope feedback",
        "list",
        "list --json",
        "rotate scheduler --overlap 7d",
        "revoke scheduler",
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """What to do, and with whose key."""
        doing = parser.add_subparsers(dest="doing", required=True, metavar="create|list|…")
        create = doing.add_parser("create", help="a new client with its first key")
        create.add_argument("client", help="its name, like scheduler")
        create.add_argument(
            "--scope",
            action="append",
            type=record_type,
            choices=list(SCOPES),
            required=True,
            help="what it may do; give it again for more: "
            + ", ".join(f"{scope} ({words.lower()})" for scope, words in SCOPES.items()),
        )
        listed = doing.add_parser("list", help="all clients and their keys")
        listed.add_argument("--json", action="store_true", help="as JSON")
        rotate = doing.add_parser("rotate", help="a new key; the other keys end after a while")
        rotate.add_argument("client")
        rotate.add_argument(
            "--overlap",
            choices=list(OVERLAPS),
            default="1d",
            help="how long the other keys stay valid (default: 1d)",
        )
        for made in (create, rotate):
            made.add_argument(
                "--days",
                type=int,
                default=_DAYS,
                metavar="N",
                help=f"how long the key is valid, up to {LONGEST_DAYS} days (default: {_DAYS})",
            )
        revoke = doing.add_parser("revoke", help="end a client's keys now")
        revoke.add_argument("client")
        revoke.add_argument("--key", help="only the key with this name, like tmx_4fGh7Kq2")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it, and write it to the activity log in the same transaction."""
        try:
            with transaction.atomic():
                getattr(self, f"_{options['doing']}")(options)
        except RefusedError as fault:
            raise CommandError(str(fault)) from fault
        except (OperationalError, ProgrammingError) as fault:
            raise CommandError(
                f"The database cannot be used ({fault}). Check DATABASE_URL, and run manage.py "
                "migrate once before the first key."
            ) from fault

    def _create(self, options: dict[str, Any]) -> None:
        scopes = list(dict.fromkeys(options["scope"]))
        key, text = api_keys.create(options["client"], scopes, days=options["days"])
        facts = {"scopes": ", ".join(scopes), "days": options["days"]}
        _note(Activity.Action.KEY_CREATED, key.client, {"key": key.name, **facts})
        self._tell(key, text)

    def _rotate(self, options: dict[str, Any]) -> None:
        client = _client(options["client"])
        overlap = OVERLAPS[options["overlap"]]
        key, text = api_keys.rotate(client, days=options["days"], overlap=overlap)
        facts = {"days": options["days"], "overlap_hours": int(overlap.total_seconds() // 3600)}
        _note(Activity.Action.KEY_ROTATED, client, {"key": key.name, **facts})
        self._tell(key, text)

    def _revoke(self, options: dict[str, Any]) -> None:
        client, name = _client(options["client"]), options["key"]
        key = client.keys.filter(name=name).first() if name else None
        if name and key is None:
            raise CommandError(
                f"{client} has no key of this name. manage.py api_key list shows all."
            )
        ended = api_keys.revoke(client, key)
        for one in ended:
            _note(Activity.Action.KEY_REVOKED, client, {"key": one})
        self.stdout.write(
            f"{client}: {len(ended)} revoked. No server accepts them after 5 seconds."
        )

    def _list(self, options: dict[str, Any]) -> None:
        keys = list(_keys())
        if options["json"]:
            self.stdout.write(json.dumps({"keys": keys}))
        elif not keys:
            self.stdout.write("There are no keys. manage.py api_key create makes one.")
        else:
            table = Table("Client", "May", "Key", "State", "Ends (UTC)", "Last used (UTC)")
            for key in keys:
                used = key["last_used_at"]
                times = key["ends_at"], used or "never"
                table.add_row(
                    key["client"],
                    ", ".join(key["scopes"]),
                    key["key"],
                    key["state"],
                    *(time[:16].replace("T", " ") for time in times),
                )
            print_table(self.stdout, table)

    def _tell(self, key: ApiKey, text: str) -> None:
        self.stderr.write(
            f"The key of {key.client}, valid until {key.expires_at:%Y-%m-%d %H:%M} UTC. It is "
            "shown only now. The client sends it as Authorization: Api-Key <key>."
        )
        self.stdout.write(text)


def _keys() -> Iterator[dict[str, Any]]:
    for client in ApiClient.objects.prefetch_related("keys"):
        for key in client.keys.all():
            yield {
                "client": client.name,
                "scopes": client.scopes,
                "key": key.name,
                "state": "revoked" if key.revoked_at else "good" if key.is_live else "expired",
                "ends_at": (key.revoked_at or key.expires_at).isoformat(),
                "last_used_at": key.last_used_at.isoformat() if key.last_used_at else None,
            }


def _client(name: str) -> ApiClient:
    client = ApiClient.objects.filter(name=name).first()
    if client is None:
        raise CommandError("There is no client of this name. manage.py api_key list shows all.")
    return client


def _note(what: Activity.Action, client: ApiClient, facts: dict[str, Any]) -> None:
    Activity.objects.create(
        user_name="manage.py api_key", action=what, facts={"client": client.name, **facts}
    )

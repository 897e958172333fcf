"""Accounts of staff. Nobody can give another account more rights than their own."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import display
from django.contrib.auth.admin import UserAdmin as StockUserAdmin
from django.contrib.auth.forms import UserCreationForm
from django.contrib.auth.models import Group, Permission, User
from django.db.models import ManyToManyField, Q, QuerySet
from django.forms import CheckboxSelectMultiple, ModelMultipleChoiceField
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from ingestion.portal.lists import PortalAdmin

_PERSON = (None, {"fields": ("username", "first_name", "last_name", "email")})
_SIGN_IN = ("Signing in", {"fields": ("password", "is_active", "is_staff")})


class UserAdmin(PortalAdmin, StockUserAdmin):  # type: ignore[type-arg]  # generic for mypy alone
    """The stock pages of accounts; an account gets its rights only from groups.

    To change, delete or give a password to an account, a person must have all its rights. Otherwise
    signing in to that account could give them more rights. Only superusers manage superusers.
    """

    list_title = "Accounts"
    add_form = UserCreationForm
    add_fieldsets = (
        (None, {"fields": ("username", "password1", "password2")}),
        ("Rights", {"fields": ("is_staff", "groups")}),
    )
    list_display = ("username", "full_name", "email", "group_names", "is_active", "seen")
    list_filter = ("groups", "is_active", "is_superuser")
    filter_horizontal = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        """Also loads the groups, because the list shows them."""
        return super().get_queryset(request).prefetch_related("groups")

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """A new account is staff: only staff need one here."""
        return {"is_staff": True}

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        """Only superusers see who is a superuser, and can change it."""
        if obj is None:
            return self.add_fieldsets
        rights = ("groups", "is_superuser") if _is_superuser(request) else ("groups",)
        return (_PERSON, _SIGN_IN, ("Rights", {"fields": rights}))

    def formfield_for_manytomany(
        self, db_field: ManyToManyField[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> ModelMultipleChoiceField[Any] | None:
        """Offers the groups that the signed-in person may give."""
        if db_field.name == "groups":
            kwargs["widget"] = CheckboxSelectMultiple
            kwargs["help_text"] = format_html(
                '<a href="{}">What each group may do</a>', reverse("admin:auth_group_changelist")
            )
            if not _is_superuser(request):
                beyond = Permission.objects.exclude(pk__in=_held(request.user.pk))
                kwargs["queryset"] = Group.objects.exclude(permissions__in=beyond)
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """The permission is needed, and for one account also all rights of that account."""
        return super().has_change_permission(request, obj) and _holds_all_of(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """The permission is needed, and for one account also all rights of that account."""
        return super().has_delete_permission(request, obj) and _holds_all_of(request, obj)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[Any, Any], set[Any], list[Any]]:
        """Only the accounts: their membership in groups is deleted with them."""
        accounts, counts, lacking, protected = super().get_deleted_objects(objs, request)
        for through in (User.groups.through, User.user_permissions.through):
            counts.pop(str(through._meta.verbose_name_plural), None)
        return [one for one in accounts if isinstance(one, str)], counts, lacking, protected

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """The form of one account, with its name as title and a single button to save."""
        account = kwargs.get("obj")
        context |= {
            "title": account.get_username() if account else "New account",
            "subtitle": None,
            "show_save_and_add_another": False,
            "show_save_and_continue": False,
        }
        return super().render_change_form(request, context, *args, **kwargs)

    @display(description="last sign-in", ordering="last_login")
    def seen(self, account: User) -> str:
        """When the person last signed in, for the list."""
        return f"{account.last_login:%Y-%m-%d %H:%M}" if account.last_login else "never"

    @display(description="name")
    def full_name(self, account: User) -> str:
        """First and last name, for the list."""
        return account.get_full_name()

    @display(description="groups")
    def group_names(self, account: User) -> str:
        """The groups, for the list."""
        if account.is_superuser:
            return "Superuser"
        return ", ".join(group.name for group in account.groups.all())


class GroupAdmin(PortalAdmin):
    """The groups and their rights, read-only: a migration creates them."""

    list_title = "Groups"
    fields = ("name", "rights")
    readonly_fields = ("rights",)

    def rights(self, group: Group) -> SafeString:
        """The rights of members, in words."""
        names = group.permissions.order_by("content_type", "pk").values_list("name")
        return format_html("<ul>{}</ul>", format_html_join("", "<li>{}</li>", names))

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Never."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        """Never."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        """Never."""
        return False


def _is_superuser(request: HttpRequest) -> bool:
    return isinstance(request.user, User) and request.user.is_superuser


def _held(account_id: int | None) -> QuerySet[Permission]:
    # Not `get_all_permissions`: it is empty for an account that is not active at the moment.
    return Permission.objects.filter(Q(user=account_id) | Q(group__user=account_id))


def _holds_all_of(request: HttpRequest, account: User | None) -> bool:
    if account is None or _is_superuser(request):
        return True
    beyond = _held(account.pk).exclude(pk__in=_held(request.user.pk))
    return not account.is_superuser and not beyond.exists()

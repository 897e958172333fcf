"""The settings, from the environment. No other module reads the environment.

`.env.example` describes the variables. If a value is wrong, a system check (`tutormax.checks`)
names the variable, and the setting has its default until then.
"""

from __future__ import annotations

import os
import tomllib
from datetime import timedelta
from pathlib import Path

from ingestion import embedded
from tutormax.environment import Environment
from tutormax.logs import logging_config
from tutormax.private import make_private, write_privately
from tutormax.secret_key import stored_secret_key
from tutormax.store import store_alias

BASE_DIR = Path(__file__).resolve().parent.parent
VERSION: str = tomllib.loads((BASE_DIR / "pyproject.toml").read_text())["project"]["version"]

_env_file = os.environ.get("ENV_FILE")
ENVIRONMENT = env = Environment(Path(_env_file or BASE_DIR / ".env"), must_exist=bool(_env_file))

DEBUG = env.flag("DEBUG", default=False)
HOST = env.host("HOST", "127.0.0.1")
PORT = env.number("PORT", 8000, least=1, most=65535)
ALLOWED_HOSTS = env.allowed_hosts("ALLOWED_HOSTS", ("localhost", "127.0.0.1", "[::1]"))
# Everything that this installation writes: the embedded store, SQLite, the key below.
# A relative path starts at the project, not at the current folder.
DATA_DIR = BASE_DIR / env.text("DATA_DIR", "var")
write_privately()
make_private(DATA_DIR)  # a check reports a failure
SECRET_KEY = env.text("SECRET_KEY", "") or stored_secret_key(DATA_DIR)

# --- Intake ------------------------------------------------------------------------------------

API_PREFIX = env.path("API_PREFIX", "/api")
# If false, only this machine may send records without an API key.
OPEN_WITHOUT_KEY = env.flag("OPEN_WITHOUT_KEY", default=False)
MAX_BODY_BYTES = env.number("MAX_BODY_BYTES", 16 * 2**20, least=1024)
MAX_BATCH_RECORDS = env.number("MAX_BATCH_RECORDS", 10_000, least=1, most=100_000)
QUEUE_LIMIT = env.number("QUEUE_LIMIT", 2_000_000, least=1)
# Each client's quota, 0 for none.
CLIENT_RECORDS_PER_MINUTE = env.number("CLIENT_RECORDS_PER_MINUTE", 0, most=10**9)
# How long the answer to a request with an Idempotency-Key is remembered.
# The minimum is longer than our own senders retry.
IDEMPOTENCY_SECONDS = env.number("IDEMPOTENCY_SECONDS", 24 * 3600, least=600)

# --- Uploads -----------------------------------------------------------------------------------

MAX_UPLOAD_BYTES = env.number("MAX_UPLOAD_BYTES", 100 * 2**20, least=1024)
MAX_UPLOAD_ROWS = env.number("MAX_UPLOAD_ROWS", 1_000_000, least=1)
# The largest size of a workbook after unpacking. It is read while it is unpacked.
MAX_UNPACKED_BYTES = env.number("MAX_UNPACKED_BYTES", 512 * 2**20, least=2**20)
# Limits of the process that reads one file; above them it is ended.
UPLOAD_MEMORY_BYTES = env.number("UPLOAD_MEMORY_BYTES", 512 * 2**20, least=128 * 2**20)
UPLOAD_CPU_SECONDS = env.number("UPLOAD_CPU_SECONDS", 300, least=10)
UPLOAD_KEEP_DAYS = env.number("UPLOAD_KEEP_DAYS", 30, least=1, most=3650)
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}

# --- Web server --------------------------------------------------------------------------------

BODY_TIMEOUT_SECONDS = env.number("BODY_TIMEOUT_SECONDS", 20, least=1, most=3600)
FAST_LANE = env.flag("FAST_LANE", default=True)
WEB_WORKERS = env.number("WEB_WORKERS", 1, least=1, most=64)
WEB_THREADS = env.number("WEB_THREADS", 4, least=1, most=64)
MAX_WAITING_REQUESTS = env.number("MAX_WAITING_REQUESTS", 256, least=1)
MAX_BUFFERED_BYTES = env.number("MAX_BUFFERED_BYTES", 2**30, least=2**20)
READ_TIMEOUT_SECONDS = env.number("READ_TIMEOUT_SECONDS", 30, least=1, most=3600)
WEB_SILENCE_SECONDS = env.number("WEB_SILENCE_SECONDS", 20, least=2, most=3600)
SHUTDOWN_SECONDS = env.number("SHUTDOWN_SECONDS", 30, least=1, most=3600)

# --- Store -------------------------------------------------------------------------------------

REDIS_URL = env.text("REDIS_URL", "")
# The promise for an acknowledged record; /health/ready compares the store with it.
INGESTION_DURABILITY = env.choice(
    "INGESTION_DURABILITY", "fsync", ("replicated", "fsync", "everysec", "unknown", "memory")
)
REDIS_MAX_CONNECTIONS = env.number("REDIS_MAX_CONNECTIONS", 10, least=1, most=10_000)
# With these, the host of REDIS_URL is the Sentinels' name of the primary.
REDIS_SENTINELS = env.addresses("REDIS_SENTINELS", ())
REDIS_SENTINEL_PASSWORD = env.text("REDIS_SENTINEL_PASSWORD", "")
REDIS_CLUSTER = env.flag("REDIS_CLUSTER", default=False)
CACHES = {
    # A cache in the process: the caches of libraries must never fill the store of the queues.
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "store": store_alias(
        REDIS_URL or embedded.url(DATA_DIR),
        max_connections=REDIS_MAX_CONNECTIONS,
        sentinels=REDIS_SENTINELS,
        sentinel_password=REDIS_SENTINEL_PASSWORD,
        cluster=REDIS_CLUSTER,
    ),
}

# --- Database ----------------------------------------------------------------------------------

DATABASES = {"default": env.database("DATABASE_URL", f"sqlite:///{DATA_DIR / 'portal.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["NAME"] = str(BASE_DIR / DATABASES["default"]["NAME"])
    DATABASES["default"]["OPTIONS"] = {
        # Many readers and one writer at a time; they wait instead of failing.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        "transaction_mode": "IMMEDIATE",
        "timeout": 10,
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Logging -----------------------------------------------------------------------------------

LOG_LEVEL = env.choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
LOG_FORMAT = env.choice("LOG_FORMAT", "plain", ("plain", "json"))
LOGGING = logging_config(level=LOG_LEVEL, as_json=LOG_FORMAT == "json")

# --- Browsers ----------------------------------------------------------------------------------

CORS_ALLOWED_ORIGINS = env.origins(
    "CORS_ORIGINS",
    ("http://localhost:3000", "http://localhost:5173", "http://localhost:8080"),
)
CORS_ALLOW_METHODS = ("GET", "POST")
CORS_ALLOW_HEADERS = (
    "accept",
    "authorization",
    "content-encoding",
    "content-type",
    "idempotency-key",
    "x-request-id",
)
CORS_EXPOSE_HEADERS = (
    "Idempotent-Replayed",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "X-Request-ID",
)

# Set it if a proxy in front uses HTTPS. Then cookies are only sent over HTTPS, and plain requests
# are redirected to HTTPS.
HTTPS = env.flag("HTTPS", default=False)
CSRF_TRUSTED_ORIGINS = env.origins("CSRF_TRUSTED_ORIGINS", ())
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
# A load balancer inside the network asks for health over plain HTTP.
SECURE_REDIRECT_EXEMPT = [r"^health"]
X_FRAME_OPTIONS = "DENY"

# --- Staff portal ------------------------------------------------------------------------------

# Shown on every page, so that nobody confuses two installations.
ENVIRONMENT_NAME = env.text("ENVIRONMENT_NAME", "Local")
LOGIN_URL = "admin:login"
# The page after signing in if `next` is not on this site.
LOGIN_REDIRECT_URL = "admin:index"
# Proxies in front that add their peer to X-Forwarded-For. HTTPS needs at least one.
TRUSTED_PROXIES = env.number("TRUSTED_PROXIES", 1 if HTTPS else 0, most=10)
# For each web worker. Behind proxies, all connections come from the proxies.
MAX_CONNECTIONS_PER_PEER = env.number(
    "MAX_CONNECTIONS_PER_PEER", 0 if TRUSTED_PROXIES else 512, most=100_000
)
# After ten failed attempts, signing in is blocked for this account or address for a while. The
# portal's database counts them, so signing in works while the store is away.
SIGN_IN_COOL_OFF_SECONDS = env.number("SIGN_IN_COOL_OFF_SECONDS", 900, least=1, most=86_400)
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = timedelta(seconds=SIGN_IN_COOL_OFF_SECONDS)
AXES_LOCKOUT_PARAMETERS = ["username", "ip_address"]
AXES_HANDLER = "ingestion.portal.sign_in.Tries"
AXES_CLIENT_IP_CALLABLE = "ingestion.portal.sign_in.counted_address"
AXES_LOCKOUT_CALLABLE = "ingestion.portal.errors.too_many_tries"
# Attempts during a lock are not recorded: they do not prolong it and do not fill the database.
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_DISABLE_ACCESS_LOG = True
AXES_VERBOSE = False
AUTHENTICATION_BACKENDS = [
    "ingestion.portal.sign_in.CountedTries",
    "django.contrib.auth.backends.ModelBackend",
]
SESSION_ENGINE = "tutormax.sessions"
# A sign-in lasts for a working day.
SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
# Lax, not Strict: a person who follows a link in a mail is still signed in.
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "ingestion.portal.errors.csrf_failure"

# --- Django ------------------------------------------------------------------------------------

INSTALLED_APPS = [
    # It does not search for admin modules: the portal has its own admin site.
    "django.contrib.admin.apps.SimpleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",
    "django.contrib.staticfiles",
    "corsheaders",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "axes",
    "django_tasks",
    "django_tasks_db",
    "ingestion",
    "tutormax",
]
MIDDLEWARE = [
    "tutormax.middleware.RequestLogMiddleware",
    "ingestion.portal.policy.ContentSecurityPolicyMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "tutormax.urls"
WSGI_APPLICATION = "tutormax.wsgi.application"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
# Our server limits the body when it reads it; this setting is for other servers.
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
# Static files are served directly from the packages: nobody must collect or update them.
WHITENOISE_USE_FINDERS = True
STATICFILES_FINDERS = ["tutormax.static_files.WithoutSourceMaps"]
# The storage gives every file these permissions; by default everybody could read them.
FILE_UPLOAD_PERMISSIONS = 0o600
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o700
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    # To share uploads between several web servers, use a storage that all of them reach.
    "uploads": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": DATA_DIR / "uploads", "base_url": None},
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

# --- REST framework and its documentation ------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": [],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "ingestion.api.negotiation.AlwaysJSON",
    "DEFAULT_METADATA_CLASS": None,
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "ingestion.api.errors.exception_handler",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "TutorMax ingestion portal",
    "VERSION": VERSION,
    "DESCRIPTION": (
        "Takes in tutor profiles, sessions and feedback as JSON, validates every record, and puts "
        "the valid ones on a queue.\n\n"
        "**The promise:** a 2xx answer means that every record counted as accepted is on the "
        "queue. Any other status means that nothing of the request was queued. The one exception "
        'says so: a 503 with `"outcome": "unknown"`.\n\n'
        "Fields that a record type does not know are dropped. A value is never converted: a number "
        "sent as text is refused. All errors have the same form; `code` is one of a closed "
        "list, and no message repeats a value that was sent. If an answer has `Retry-After`, "
        "the same request may succeed later.\n\n"
        "A time without an offset stays without one: sender and reader must agree on its time "
        "zone, because the portal adds none. A record is queued each time it is sent, even with "
        "the same id; only an `Idempotency-Key` makes repeated requests count once."
    ),
    "SERVERS": [{"url": "/", "description": "The portal that serves this page."}],
    "CONTACT": {"name": "The operator of this portal"},
    "LICENSE": {"name": "MIT", "identifier": "MIT"},
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "ingestion.api.schema.describe_tags",
    ],
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "APPEND_COMPONENTS": {
        "securitySchemes": {
            "ApiKey": {
                "type": "apiKey",
                "in": "header",
                "name": "Authorization",
                # Not the type `http`: Swagger UI and others support only basic and bearer there.
                "description": "`Api-Key tmx_…`, with the word `Api-Key` in front (the page /docs "
                "adds it). Programs on the portal's own machine need no key.",
            }
        }
    },
    "ENFORCE_NON_BLANK_FIELDS": True,
    "ENUM_NAME_OVERRIDES": {
        "ErrorCodeEnum": "ingestion.outcomes.Code",
        "FieldErrorCodeEnum": "ingestion.outcomes.FieldCode",
    },
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}

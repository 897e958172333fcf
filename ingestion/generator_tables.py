"""Tables for the generator: how tutors of each archetype behave, names, subjects, comments.

The names and comments are invented; the e-mail domains are reserved for examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True, slots=True)
class Archetype:
    """How tutors of one archetype behave. A pair is the lowest and the highest value.

    `newcomers` is the chance that a place is given to a student who is new to the tutor. `decline`
    is how much engagement is lost from the first day to the last (0: it stays as it is; above 0:
    there are also fewer and fewer sessions).
    """

    percent: int
    tenure_days: tuple[int, int]
    weekly_sessions: tuple[int, int]
    reschedules: float
    no_shows: float
    lateness: float
    late_minutes: int
    technical_issues: float
    engagement: float
    rating: float
    newcomers: float
    decline: float = 0.0
    statuses: tuple[str, ...] = ("active",)


# Tables read better in blocks than with one word per line.
# fmt: off
ARCHETYPES = MappingProxyType({
    "high_performer": Archetype(
        percent=30, tenure_days=(180, 1400), weekly_sessions=(15, 25), newcomers=0.08,
        reschedules=0.02, no_shows=0.01, lateness=0.10, late_minutes=5, technical_issues=0.03,
        engagement=0.88, rating=4.7),
    "at_risk": Archetype(
        percent=20, tenure_days=(90, 900), weekly_sessions=(6, 14), newcomers=0.25,
        reschedules=0.18, no_shows=0.12, lateness=0.45, late_minutes=25, technical_issues=0.12,
        engagement=0.52, rating=2.9, statuses=("active",) * 9 + ("suspended",)),
    "new_tutor": Archetype(
        percent=25, tenure_days=(4, 85), weekly_sessions=(4, 12), newcomers=0.35,
        reschedules=0.06, no_shows=0.04, lateness=0.25, late_minutes=10, technical_issues=0.09,
        engagement=0.68, rating=3.8),
    "steady": Archetype(
        percent=20, tenure_days=(150, 1400), weekly_sessions=(10, 18), newcomers=0.10,
        reschedules=0.05, no_shows=0.03, lateness=0.18, late_minutes=8, technical_issues=0.05,
        engagement=0.76, rating=4.1),
    "churner": Archetype(
        percent=5, tenure_days=(90, 600), weekly_sessions=(3, 9), newcomers=0.30,
        reschedules=0.32, no_shows=0.16, lateness=0.50, late_minutes=30, technical_issues=0.12,
        engagement=0.50, rating=2.8, decline=0.30,
        statuses=("active",) * 6 + ("inactive",) * 3 + ("suspended",)),
})

FIRST_NAMES = (
    "Amara", "Anna", "Benjamin", "Carlos", "Chloé", "Daniel", "Elena", "Émile", "Fatima", "Grace",
    "Hannah", "Ibrahim", "Isabel", "Jamal", "James", "José", "Katarzyna", "Kenji", "Leila", "Linh",
    "Łukasz", "Maria", "Mei", "Michael", "Nadia", "Noah", "Olivia", "Priya", "Rachel", "Renée",
    "Samuel", "Sofía", "Søren", "Tomás", "Wei", "Yusuf", "Zoë",
)
LAST_NAMES = (
    "Adeyemi", "Andersen", "Baker", "Brown", "Chen", "Cohen", "Díaz", "Dubois", "Evans",
    "Fernández", "García", "Gonçalves", "Haddad", "Hansen", "Ivanova", "Johnson", "Kim", "Kowalski",
    "Lefèvre", "Martin", "Müller", "Nakamura", "Novák", "O'Connor", "Okafor", "Patel", "Reyes",
    "Rossi", "Schröder", "Singh", "Smith", "Tanaka", "Taylor", "Walker", "Williams", "Öztürk",
)
ASCII_LETTERS = str.maketrans("áçéèëíöøüł", "aceeeiooul", "'")
DOMAINS = ("example.com", "example.org", "example.net")
LOCATIONS = (
    "Atlanta", "Austin", "Berlin", "Boston", "Chicago", "Denver", "Dublin", "Kraków", "London",
    "Los Angeles", "Manchester", "Miami", "Montréal", "New York", "Philadelphia", "San Francisco",
    "São Paulo", "Seattle", "Toronto", "Zürich",
)
EDUCATION = (  # level, youngest and oldest age; a frequent level is listed several times
    ("Undergraduate Student", 18, 25), ("Bachelor's Degree", 22, 60), ("Bachelor's Degree", 22, 45),
    ("Master's Degree", 24, 62), ("Master's Degree", 24, 48), ("Teaching Certificate", 23, 66),
    ("Doctorate", 28, 72),
)
SUBJECTS = MappingProxyType({
    "STEM": ("Algebra", "Biology", "Calculus", "Chemistry", "Computer Science", "Geometry",
             "Mathematics", "Physics", "Statistics"),
    "Language": ("Arabic", "English", "French", "German", "Italian", "Japanese", "Mandarin",
                 "Portuguese", "Spanish"),
    "TestPrep": ("ACT English", "ACT Math", "GMAT Preparation", "GRE Preparation",
                 "IELTS Preparation", "LSAT Preparation", "SAT Math", "SAT Reading and Writing"),
})
SUBJECT_TYPES = ("STEM", "STEM", "STEM", "Language", "Language", "TestPrep")
SESSION_TYPES = ("1-on-1",) * 17 + ("group", "group", "workshop")
DURATIONS_MINUTES = (30, 45, 60, 60, 60, 90)

FIRST_HOUR = 8  # the popularity of each hour from here on; tutoring happens around the school day
WEEKDAY_HOURS = (1, 1, 1, 1, 2, 2, 4, 10, 14, 14, 13, 11, 7, 2)
WEEKEND_HOURS = (2, 6, 10, 10, 7, 8, 9, 8, 6, 4, 3, 2, 1, 1)
OPENINGS_PER_DAY = 2 * len(WEEKDAY_HOURS)  # a session may begin every half hour
LONGEST_COURSE_WEEKS = 30
BOOKED_AHEAD_MINUTES = 3 * 24 * 60  # at most; the newest tutors came four days before the start
NO_SHOW_WAIT = timedelta(minutes=15)

FEEDBACK_SHARE = 0.8
SILENT_SHARE = 0.25  # of the feedback comes without a word
RATED_ASPECTS = (
    "subject_knowledge_rating", "communication_rating", "patience_rating", "engagement_rating",
    "helpfulness_rating",
)
COMMENTS = MappingProxyType({
    5: ("Great session, very helpful!", "I finally understand {subject}. Thank you!",
        "Best tutor I have had so far.", "Clear, patient and well prepared.",
        "¡Muy buena clase! The examples made {subject} easy."),
    4: ("Good session, I learned a lot.", "Helpful, although we ran out of time at the end.",
        "Explains {subject} well and takes questions.", "Très bien, I would book again."),
    3: ("It was okay.", "Some parts of {subject} are still unclear to me.",
        "Good explanations, but the pace was too fast.", "We covered less than I had hoped."),
    2: ("I did not get much out of this session.", "The tutor seemed unprepared for {subject}.",
        "Hard to follow, and my questions were passed over."),
    1: ("Very disappointing.", "We got nowhere with {subject}.",
        "The tutor was impatient and did not listen. I want another one."),
})
IMPROVEMENT_AREAS = (
    "Clearer explanations", "More examples", "More patience", "Pace of the session",
    "Preparation", "Punctuality", "Staying on topic", "Time for questions",
)
# fmt: on

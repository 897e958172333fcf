"""The portal's settings, and a middleware that counts the answers of Django.

An answer of the fast lane repeats the headers of the answer that it learned from.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from django.http import HttpRequest, HttpResponse

from tutormax.settings import *  # noqa: F403
from tutormax.settings import MIDDLEWARE

ANSWERS_OF_DJANGO = "X-Answers-Of-Django"


def counted(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[..., HttpResponse]:
    numbers = count(1)

    def answer(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response[ANSWERS_OF_DJANGO] = str(next(numbers))
        return response

    return answer


MIDDLEWARE = ["tests.lane_site.counted", *MIDDLEWARE]

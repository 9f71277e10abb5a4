"""The addresses of the views."""

from django.urls import path

from . import views

urlpatterns = [
    path("async/", views.place_async),
    path("sync/", views.place),
    path("heard/", views.heard),
]

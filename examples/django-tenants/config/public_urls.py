from customers import views
from django.urls import path

urlpatterns = [
    path("", views.sign_up, name="sign-up"),
    path("sign-ups/<uuid:pk>", views.signing_up, name="signing-up"),
]

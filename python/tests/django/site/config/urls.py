from django.urls import path
from shop import views

urlpatterns = [path("buy/<int:total>/", views.buy), path("abuy/<int:total>/", views.abuy)]

from billing import views
from django.urls import path

urlpatterns = [
    path("", views.invoices, name="invoices"),
    path("invoices/<int:pk>/pay", views.pay, name="pay"),
    path("report", views.report, name="report"),
    path("tasks/<uuid:pk>", views.task, name="task"),
]

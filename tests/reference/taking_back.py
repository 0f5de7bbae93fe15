"""A policy of which much is taken back: by consent, goals, products and time."""

TAKING_BACK = """
policy = "back"
version = 1
currency = "EUR"
[[purposes]]
id = "service"
unknown = "granted"
[[journeys]]
id = "back"
on = ["Product Viewed", "Product Added", "page"]
when = "True"
alongside = true
goal = ["Order Completed", "Cart Viewed"]
expires_after = "4h"
[[journeys.offers]]
id = "mail"
channel = "email"
take_back = "4h"
[[journeys.offers]]
id = "text"
channel = "sms"
purpose = "service"
take_back = "30m"
[[journeys.offers]]
id = "push"
channel = "push"
purpose = "service"
take_back = "2h"
[[journeys.offers]]
id = "site"
channel = "web"
take_back = "4h"
[[journeys]]
id = "waited"
on = ["Product Viewed", "Product Added"]
when = "True"
wait = ["30m", "2h"]
by = "product"
goal = ["Order Completed", "Product Added"]
[[journeys.offers]]
id = "reminder"
channel = "email"
placement = "later"
purpose = "service"
take_back = "1d"
"""

"""The description of the API: operations, schemas, and the OpenAPI document that is made of them."""

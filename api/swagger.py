"""/docs: Swagger UI. It lies elsewhere and runs on this origin, where a script could use the
session of whoever has signed in: so it is one version, known by its digest, and no other runs."""

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

router = APIRouter()

_SWAGGER = "https://cdn.jsdelivr.net/npm/swagger-ui-dist@5.35.0"
_DIGESTS = {
    f"{_SWAGGER}/swagger-ui-bundle.js": (
        "sha384-gjRm0bEPMeTmMh5jT2cHccIwCUZSTd8YC+j0d0sXw0MdGEfScduGpSyF3ZSSLkX9"
    ),
    f"{_SWAGGER}/swagger-ui.css": (
        "sha384-WlYgdmXYOOBWL5apwjDEZwN+U3HmXSSu5R6V5aGxEcf7z+KuRNwBhoxKVN1i3D5I"
    ),
}


@router.get("/docs", include_in_schema=False)
def docs(request: Request) -> HTMLResponse:
    script, style = _DIGESTS
    page = get_swagger_ui_html(
        openapi_url=str(request.app.openapi_url),
        title=f"{request.app.title} - API",
        swagger_js_url=script,
        swagger_css_url=style,
        swagger_favicon_url="data:,",
    )
    html = bytes(page.body).decode()
    for address, digest in _DIGESTS.items():
        checked = f'"{address}" integrity="{digest}" crossorigin="anonymous"'
        html = html.replace(f'"{address}"', checked)
    headers = {"X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer"}
    return HTMLResponse(html, headers=headers)

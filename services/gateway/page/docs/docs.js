/** Shows /openapi.json with Swagger UI, from this server alone. */

const chosen = localStorage.getItem("theme"); // as on the live page
const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
document.documentElement.classList.toggle("dark-mode", dark);
document.documentElement.style.colorScheme = dark ? "dark" : "light";

window.SwaggerUIBundle({
  url: new URL("../openapi.json", document.baseURI).href,
  domNode: document.getElementById("calls"),
  deepLinking: true,
  validatorUrl: null, // else it asks a server on the internet about our document
  defaultModelsExpandDepth: 0,
});

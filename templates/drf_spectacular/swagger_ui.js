"use strict";

// Of drf-spectacular's own script this is what the page needs. The API takes no token of a form, so
// no command that is copied from here holds one.

// Swagger UI takes NDJSON for JSON by its name, and would send the lines as one JSON text.
const showLinesAsTheyAre = () => ({
  afterLoad({ fn }) {
    const sample = fn.getSampleSchema;
    this.fn.getSampleSchema = (schema, mediaType, options, example) =>
      mediaType === "application/x-ndjson" && typeof example === "string"
        ? example
        : sample(schema, mediaType, options, example);
  },
});

SwaggerUIBundle({
  url: "{{ schema_url|escapejs }}",
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis],
  plugins: [showLinesAsTheyAre],
  layout: "BaseLayout",
  requestInterceptor: (request) => {
    // Who pastes the key alone means it in the one form that there is.
    if (request.headers.Authorization?.startsWith("tmx_")) {
      request.headers.Authorization = `Api-Key ${request.headers.Authorization}`;
    }
    return request;
  },
  ...{{ settings|safe }},
});

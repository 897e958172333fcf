"use strict";

// These are the parts of drf-spectacular's script that the page needs. The API uses no CSRF token, so
// the commands that people copy from this page contain none.

// Swagger UI treats NDJSON as JSON because of its name, and would send the lines as one JSON text.
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
    // A key without the word in front gets the word: there is only one scheme.
    if (request.headers.Authorization?.startsWith("tmx_")) {
      request.headers.Authorization = `Api-Key ${request.headers.Authorization}`;
    }
    return request;
  },
  ...{{ settings|safe }},
});

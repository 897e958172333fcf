// ReDoc draws its maker's mark from the internet. Here every file comes from this site, so the
// mark gets an empty picture, which ReDoc hides. Its React sets a picture's address twice, as an
// attribute and as a property.
const image = HTMLImageElement.prototype;
const setAttribute = image.setAttribute;
const src = Object.getOwnPropertyDescriptor(image, "src");
const local = (address) => (address.startsWith("https://") ? "data:," : address);

image.setAttribute = function (name, value) {
  setAttribute.call(this, name, name === "src" ? local(value) : value);
};
Object.defineProperty(image, "src", {
  ...src,
  set(address) {
    src.set.call(this, local(address));
  },
});

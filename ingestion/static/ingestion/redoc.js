// ReDoc loads its maker's logo from the internet. This site loads no files from elsewhere, so the
// logo gets an empty picture, which ReDoc hides. React sets a picture's address twice, as an
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
